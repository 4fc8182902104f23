// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Dials a closed port many times at once: `syn_burst.ts IP:PORT COUNT`. Prints how many connections were refused.
 *
 * @module
 */

import { connect } from "node:net";
import { parseTransportAddress } from "../../../lib/net/address.ts";

function isRefused(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.on("connect", () => resolve(false));
    socket.on(
      "error",
      (error: Error & { code?: string }) => resolve(error.code === "ECONNREFUSED"),
    );
  });
}

if (import.meta.main) {
  const [to, count] = Deno.args;
  const { ip, port } = parseTransportAddress(to!);
  const dials = Array.from({ length: Number(count) }, () => isRefused(ip, port));
  const refused = (await Promise.all(dials)).filter(Boolean).length;
  console.log(`${refused} refused`);
}
