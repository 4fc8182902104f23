/** Returns every datagram to its sender, as simply as Deno can: what a server is compared with. */
const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
const { port } = socket.addr as Deno.NetAddr;
Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify({ port })}\n`));
const buffer = new Uint8Array(65_535);
while (true) {
  const [data, from] = await socket.receive(buffer);
  await socket.send(data, from);
}
