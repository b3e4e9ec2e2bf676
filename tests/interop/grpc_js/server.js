// The server of conformance.proto on grpc-js; see ../servers.py for its manners.
"use strict";

const path = require("node:path");
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const limits = JSON.parse(process.argv[2]);
const proto = path.join(__dirname, "..", "conformance.proto");
const loaded = grpc.loadPackageDefinition(
  loader.loadSync(proto, { keepCase: true, longs: Number, defaults: true }),
);

let seen, peers;
let current = 0;

function reset() {
  seen = { calls: {}, messages: {}, payload_bytes: {}, most_at_once: 0 };
  peers = new Set();
}

function report() {
  const text = JSON.stringify({ ...seen, peers: peers.size });
  reset();
  return text;
}

function count(counts, name, amount = 1) {
  counts[name] = (counts[name] || 0) + amount;
}

function take(name, order) {
  count(seen.messages, name);
  count(seen.payload_bytes, name, order.payload.length);
}

// Notes the beginning of a call; what it returns notes the end, once.
function enter(name, call) {
  count(seen.calls, name);
  peers.add(call.getPeer());
  seen.most_at_once = Math.max(seen.most_at_once, ++current);
  let isOver = false;
  const leave = () => {
    if (!isOver) current--;
    isOver = true;
  };
  call.on("cancelled", leave);
  return leave;
}

const pause = (order) =>
  order.delay_us ? new Promise((done) => setTimeout(done, order.delay_us / 1000)) : undefined;

const reply = (order, number, received) => ({
  number,
  received_bytes: received,
  payload: Buffer.alloc(order.response_bytes, "x"),
});

function failure(order) {
  const metadata = new grpc.Metadata();
  metadata.set("x-detail-bin", Buffer.from(order.detail));
  return { code: order.code, details: order.text, metadata };
}

// Writes one answer of a stream and waits while the client's windows are full.
async function write(call, message) {
  if (!call.write(message)) await new Promise((done) => call.once("drain", done));
}

async function unary(call, callback) {
  const leave = enter("Unary", call);
  const order = call.request;
  take("Unary", order);
  await pause(order);
  leave();
  if (order.code) callback(failure(order));
  else callback(null, reply(order, 1, order.payload.length));
}

async function download(call) {
  const leave = enter("Download", call);
  const order = call.request;
  take("Download", order);
  for (let number = 1; number <= order.responses && !call.cancelled; number++) {
    await pause(order);
    await write(call, reply(order, number, order.payload.length));
  }
  leave();
  if (order.code) call.emit("error", failure(order));
  else call.end();
}

function upload(call, callback) {
  const leave = enter("Upload", call);
  let first, received = 0;
  call.on("data", (order) => {
    take("Upload", order);
    first = first || order;
    received += order.payload.length;
  });
  call.on("end", async () => {
    await pause(first);
    leave();
    if (first.code) callback(failure(first));
    else callback(null, reply(first, 1, received));
  });
}

function talk(call) {
  const leave = enter("Talk", call);
  let first, received = 0, number = 0;
  let said = Promise.resolve(); // answers leave one after another
  call.on("data", (order) => {
    take("Talk", order);
    first = first || order;
    received += order.payload.length;
    const [mine, so_far] = [++number, received];
    said = said.then(async () => {
      await pause(first);
      await write(call, reply(first, mine, so_far));
    });
  });
  call.on("end", async () => {
    await said;
    leave();
    if (first.code) call.emit("error", failure(first));
    else call.end();
  });
}

const options = { "grpc.max_receive_message_length": 16 << 20 }; // it never packs its answers
if (limits.streams) options["grpc.max_concurrent_streams"] = limits.streams;
if (limits.age_ms) {
  options["grpc.max_connection_age_ms"] = limits.age_ms;
  options["grpc.max_connection_age_grace_ms"] = 10000;
}

reset();
const server = new grpc.Server(options);
server.addService(loaded.headroom.interop.Conformance.service, {
  Unary: unary,
  Download: download,
  Upload: upload,
  Talk: talk,
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
readline
  .createInterface({ input: process.stdin })
  .on("line", () => console.log(report()))
  .on("close", () => process.exit(0));
