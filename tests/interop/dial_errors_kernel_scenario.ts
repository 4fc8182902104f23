/**
 * Dials each port of 127.0.0.1 given as an argument, from a single port that has a listener, and prints the reason of
 * each failure on a line.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";

using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 }, { reusePort: true });
for (const port of Deno.args.map(Number)) {
  const options = { local: listener.local, reusePort: true };
  try {
    using _connection = await systemNetwork.connectTcp({ ip: "127.0.0.1", port }, options);
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    // deno-lint-ignore no-console
    console.log(error.reason);
  }
}
