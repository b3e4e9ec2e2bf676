// The server of conformance.proto on Debian's grpc-go; see ../servers.py for its manners.
//
// Messages are written by hand as the protobuf library wants them, so that no generator is needed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // answers are packed as their requests were
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

type Order struct {
	Responses     int32  `protobuf:"varint,1,opt,name=responses,proto3"`
	ResponseBytes int32  `protobuf:"varint,2,opt,name=response_bytes,proto3"`
	DelayUs       int32  `protobuf:"varint,3,opt,name=delay_us,proto3"`
	Code          int32  `protobuf:"varint,4,opt,name=code,proto3"`
	Text          string `protobuf:"bytes,5,opt,name=text,proto3"`
	Detail        []byte `protobuf:"bytes,6,opt,name=detail,proto3"`
	Payload       []byte `protobuf:"bytes,7,opt,name=payload,proto3"`
}

func (m *Order) Reset()         { *m = Order{} }
func (m *Order) String() string { return proto.CompactTextString(m) }
func (*Order) ProtoMessage()    {}

type Reply struct {
	Number        int32  `protobuf:"varint,1,opt,name=number,proto3"`
	ReceivedBytes int64  `protobuf:"varint,2,opt,name=received_bytes,proto3"`
	Payload       []byte `protobuf:"bytes,3,opt,name=payload,proto3"`
}

func (m *Reply) Reset()         { *m = Reply{} }
func (m *Reply) String() string { return proto.CompactTextString(m) }
func (*Reply) ProtoMessage()    {}

// Seen is what the server has counted since it was last asked.
type Seen struct {
	Calls      map[string]int `json:"calls"`
	Messages   map[string]int `json:"messages"`
	Bytes      map[string]int `json:"payload_bytes"`
	MostAtOnce int            `json:"most_at_once"`
	Peers      int            `json:"peers"`
}

type service struct {
	mutex   sync.Mutex
	seen    Seen
	peers   map[string]bool
	current int
}

func (s *service) reset() {
	s.seen = Seen{Calls: map[string]int{}, Messages: map[string]int{}, Bytes: map[string]int{}}
	s.peers = map[string]bool{}
}

func (s *service) report() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.seen.Peers = len(s.peers)
	text, _ := json.Marshal(s.seen)
	s.reset()
	return string(text)
}

func (s *service) enter(name string, ctx context.Context) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.seen.Calls[name]++
	if from, ok := peer.FromContext(ctx); ok {
		s.peers[from.Addr.String()] = true
	}
	s.current++
	if s.current > s.seen.MostAtOnce {
		s.seen.MostAtOnce = s.current
	}
}

func (s *service) leave() {
	s.mutex.Lock()
	s.current--
	s.mutex.Unlock()
}

func (s *service) take(name string, order *Order) {
	s.mutex.Lock()
	s.seen.Messages[name]++
	s.seen.Bytes[name] += len(order.Payload)
	s.mutex.Unlock()
}

func reply(order *Order, number int32, received int64) *Reply {
	time.Sleep(time.Duration(order.DelayUs) * time.Microsecond)
	payload := []byte(strings.Repeat("x", int(order.ResponseBytes)))
	return &Reply{Number: number, ReceivedBytes: received, Payload: payload}
}

func ending(order *Order, trail func(metadata.MD)) error {
	if order.Code == 0 {
		return nil
	}
	trail(metadata.Pairs("x-detail-bin", string(order.Detail)))
	return status.Error(codes.Code(order.Code), order.Text)
}

func unary(srv interface{}, ctx context.Context, decode func(interface{}) error,
	_ grpc.UnaryServerInterceptor) (interface{}, error) {
	s := srv.(*service)
	s.enter("Unary", ctx)
	defer s.leave()
	order := new(Order)
	if err := decode(order); err != nil {
		return nil, err
	}
	s.take("Unary", order)
	answer := reply(order, 1, int64(len(order.Payload)))
	trail := func(md metadata.MD) { grpc.SetTrailer(ctx, md) }
	if err := ending(order, trail); err != nil {
		return nil, err
	}
	return answer, nil
}

func download(srv interface{}, stream grpc.ServerStream) error {
	s := srv.(*service)
	s.enter("Download", stream.Context())
	defer s.leave()
	order := new(Order)
	if err := stream.RecvMsg(order); err != nil {
		return err
	}
	s.take("Download", order)
	for number := int32(1); number <= order.Responses; number++ {
		if err := stream.SendMsg(reply(order, number, int64(len(order.Payload)))); err != nil {
			return err
		}
	}
	return ending(order, stream.SetTrailer)
}

// Both methods that a client streams to; `answers` says whether each message has an answer.
func stream(name string, answers bool) grpc.StreamHandler {
	return func(srv interface{}, stream grpc.ServerStream) error {
		s := srv.(*service)
		s.enter(name, stream.Context())
		defer s.leave()
		var first *Order
		var received int64
		for number := int32(1); ; number++ {
			order := new(Order)
			err := stream.RecvMsg(order)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			s.take(name, order)
			if first == nil {
				first = order
			}
			received += int64(len(order.Payload))
			if answers {
				if err := stream.SendMsg(reply(first, number, received)); err != nil {
					return err
				}
			}
		}
		if first == nil {
			return status.Error(codes.InvalidArgument, "a stream without a message")
		}
		if !answers && first.Code == 0 {
			return stream.SendMsg(reply(first, 1, received))
		}
		return ending(first, stream.SetTrailer)
	}
}

func description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "headroom.interop.Conformance",
		HandlerType: (*interface{})(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Download", Handler: download, ServerStreams: true},
			{StreamName: "Upload", Handler: stream("Upload", false), ClientStreams: true},
			{StreamName: "Talk", Handler: stream("Talk", true), ServerStreams: true, ClientStreams: true},
		},
	}
}

func main() {
	var limits struct {
		Streams uint32 `json:"streams"`
		AgeMs   int    `json:"age_ms"`
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &limits); err != nil {
		panic(err)
	}
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(16 << 20)}
	if limits.Streams > 0 {
		options = append(options, grpc.MaxConcurrentStreams(limits.Streams))
	}
	if limits.AgeMs > 0 {
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge:      time.Duration(limits.AgeMs) * time.Millisecond,
			MaxConnectionAgeGrace: 10 * time.Second,
		}))
	}
	s := new(service)
	s.reset()
	server := grpc.NewServer(options...)
	server.RegisterService(description(), s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(listener)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(s.report())
	}
}
