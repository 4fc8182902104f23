// deno-lint-ignore-file no-console -- it prints that it is ready
/**
 * A program for a host of the lab: the traffic of other hosts behind the same NAT. `serve PORT` accepts connections.
 * `open IP PORT PER_SECOND` opens this many a second, on average and at random times, and closes them.
 *
 * @module
 */

import { delay } from "@std/async/delay";

if (import.meta.main) {
  const [command, ...args] = Deno.args;
  if (command === "serve") await serve(Number(args[0]));
  else await open({ hostname: args[0]!, port: Number(args[1]) }, Number(args[2]));
}

async function serve(port: number): Promise<void> {
  using listener = Deno.listen({ port });
  console.log("ready");
  for await (const connection of listener) connection.close();
}

async function open(to: { hostname: string; port: number }, perSecond: number): Promise<void> {
  console.log("ready");
  for (;;) {
    await delay(-Math.log(1 - Math.random()) / perSecond * 1000);
    Deno.connect(to).then((connection) => connection.close(), () => {});
  }
}
