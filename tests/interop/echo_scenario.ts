/**
 * Sends a greeting to an address, `deno run echo_scenario.ts tcp|udp IP PORT`, and prints the reply as JSON.
 *
 * @module
 */

import { systemNetwork } from "../../lib/net/system.ts";

const [protocol, ip = "", port] = Deno.args;
const to = { ip, port: Number(port) };
const hello = new TextEncoder().encode("hello");
const signal = AbortSignal.timeout(10_000);
const answer = protocol === "tcp" ? await askTcp() : await askUdp();
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify(new TextDecoder().decode(answer)));

async function askTcp(): Promise<Uint8Array> {
  using connection = await systemNetwork.connectTcp(to, { signal });
  await connection.write(hello);
  const buffer = new Uint8Array(hello.length);
  const length = await connection.read(buffer);
  return buffer.subarray(0, length ?? 0);
}

async function askUdp(): Promise<Uint8Array> {
  using socket = await systemNetwork.bindUdp({ ip: ip.includes(":") ? "::" : "0.0.0.0", port: 0 });
  await socket.send(hello, to);
  return (await socket.receive({ signal })).data;
}
