// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Reports to each client its own address, over UDP and TCP: `whoami.ts PORT IP...`
 *
 * Answers a datagram with `IP:PORT`. Answers a TCP client, once it has finished sending, with the same, the number of
 * bytes and their SHA-256. With `open=IP:PORT` as the last argument, it first asks another whoami.ts over UDP from the
 * same port, and prints the answer.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { formatTransportAddress, parseTransportAddress } from "../../../lib/net/address.ts";

async function ask(socket: Deno.DatagramConn, to: string): Promise<string> {
  const { ip, port } = parseTransportAddress(to);
  await socket.send(new Uint8Array(1), { transport: "udp", hostname: ip, port });
  const [answer] = await socket.receive();
  return new TextDecoder().decode(answer);
}

async function answerDatagrams(socket: Deno.DatagramConn): Promise<void> {
  for await (const [, from] of socket) {
    await socket.send(new TextEncoder().encode(format(from as Deno.NetAddr)), from);
  }
}

async function answerConnections(listener: Deno.Listener<Deno.TcpConn>): Promise<void> {
  for await (const connection of listener) void answerConnection(connection);
}

async function answerConnection(connection: Deno.TcpConn): Promise<void> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(65536);
  let total = 0;
  for (
    let length = await connection.read(buffer);
    length !== null;
    length = await connection.read(buffer)
  ) {
    hash.update(buffer.subarray(0, length));
    total += length;
  }
  const answer = `${format(connection.remoteAddr)} ${total} ${hash.digest("hex")}`;
  await connection.write(new TextEncoder().encode(answer));
  connection.close();
}

function format({ hostname, port }: Deno.NetAddr): string {
  return formatTransportAddress({ ip: hostname, port });
}

if (import.meta.main) {
  const [port, ...rest] = Deno.args;
  const open = rest.at(-1)?.startsWith("open=") ? rest.pop()!.slice("open=".length) : undefined;
  const local = rest.map((hostname) => ({ hostname, port: Number(port) }));
  const sockets = local.map((at) => Deno.listenDatagram({ ...at, transport: "udp" }));
  const listeners = local.map((at) => Deno.listen(at));
  if (open !== undefined) console.log(await ask(sockets[0]!, open));
  console.log("ready");
  await Promise.all([...sockets.map(answerDatagrams), ...listeners.map(answerConnections)]);
}
