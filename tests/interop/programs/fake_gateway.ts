/**
 * A gateway with a fault, on the system's network: `deno run -A tests/interop/programs/fake_gateway.ts NAME ADDRESS`.
 * Prints `"ready"` once it serves, and answers each line of its input with a line of JSON: `open` with what is open,
 * `restart` with nothing, after losing it.
 *
 * @module
 */

import { systemNetwork } from "../../../lib/net/system.ts";
import { MORE } from "../../portmap/gateways/more.ts";
import { REPORTED } from "../../portmap/gateways/reported.ts";
import { ScenarioGateway } from "../../portmap/gateways/scenario.ts";

const [name, address = "127.0.0.1"] = Deno.args;
const scenario = [...REPORTED, ...MORE].find((one) => one.name === name);
if (scenario === undefined) throw new Error(`Cannot find scenario ${name}`);
const gateway = await ScenarioGateway.start(systemNetwork, address, scenario);
print("ready");

let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    if (line === "restart") gateway.restart();
    print(line === "open" ? gateway.open() : null);
  }
}
Deno.exit();

function print(value: unknown): void {
  // deno-lint-ignore no-console -- a program
  console.log(JSON.stringify(value));
}
