/**
 * `greet.ts serve IP PORT` answers on TCP and UDP with the address that it is spoken to from; `greet.ts tcp|udp IP PORT`
 * speaks to it and prints the answer as JSON, or `null` if there is none in a second.
 *
 * @module
 */

import { NetworkError } from "../../../lib/base/errors.ts";
import { formatTransportAddress, ipFamily } from "../../../lib/net/address.ts";
import { systemNetwork as network } from "../../../lib/net/system.ts";

const [action, ip = "", port = ""] = Deno.args;
const address = { ip, port: Number(port) };

if (action === "serve") await serve();
else print(JSON.stringify(action === "tcp" ? await speakTcp() : await speakUdp()));

async function serve(): Promise<never> {
  const socket = await network.bindUdp(address);
  const listener = await network.listenTcp(address);
  print("ready");
  const serveUdp = async () => {
    while (true) {
      const { from } = await socket.receive();
      await socket.send(new TextEncoder().encode(formatTransportAddress(from)), from);
    }
  };
  serveUdp();
  while (true) {
    const connection = await listener.accept();
    await connection.write(new TextEncoder().encode(formatTransportAddress(connection.remote)));
    connection.close();
  }
}

async function speakTcp(): Promise<string | null> {
  const signal = AbortSignal.timeout(1000);
  try {
    using connection = await network.connectTcp(address, { signal });
    const buffer = new Uint8Array(100);
    const length = await connection.read(buffer);
    return new TextDecoder().decode(buffer.subarray(0, length ?? 0));
  } catch (error) {
    if (error === signal.reason || error instanceof NetworkError) return null;
    throw error;
  }
}

async function speakUdp(): Promise<string | null> {
  const signal = AbortSignal.timeout(1000);
  using socket = await network.bindUdp({ ip: ipFamily(ip) === 4 ? "0.0.0.0" : "::", port: 0 });
  try {
    await socket.send(Uint8Array.of(1), address);
    return new TextDecoder().decode((await socket.receive({ signal })).data);
  } catch (error) {
    if (error === signal.reason) return null;
    throw error;
  }
}

function print(line: string): void {
  // deno-lint-ignore no-console -- a program
  console.log(line);
}
