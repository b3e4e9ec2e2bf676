// A fast gRPC server for the benchmark: one unary method, 64 bytes back, no work.
//
// grpc-go with a codec that leaves messages as they are, so that the client is what is
// measured. Answered calls are counted, and told on a port of their own.
//
//	go_server GRPC_PORT COUNT_PORT
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"google.golang.org/grpc"
)

type rawCodec struct{}

func (rawCodec) Marshal(v interface{}) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v interface{}) error {
	*v.(*[]byte) = data
	return nil
}
func (rawCodec) String() string { return "raw" }

var answered uint64
var answer = make([]byte, 64)

func say(_ interface{}, _ context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	atomic.AddUint64(&answered, 1)
	return &answer, nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/count", func(writer http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(writer, atomic.LoadUint64(&answered))
	})
	go func() { log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[2], nil)) }()
	server := grpc.NewServer(grpc.CustomCodec(rawCodec{}), grpc.MaxConcurrentStreams(1<<16))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo",
		HandlerType: (*interface{})(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Say.grpc", Handler: say}},
	}, struct{}{})
	log.Fatal(server.Serve(listener))
}
