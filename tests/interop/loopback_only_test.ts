/**
 * A host that has loopback alone, as a container without a network has: two programs on it connect, whatever they may read.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { privilegedCommand } from "../../lab/kernel/privileges.ts";
import { labTest } from "../lab/lab_test_case.ts";

const PROGRAM = new URL("../peer/programs/one_host.ts", import.meta.url).pathname;

for (const permissions of [["-A"], ["--allow-net"]]) {
  labTest(`peers connect on a host that has only loopback, with ${permissions}`, async () => {
    const run = [Deno.execPath(), "run", "--quiet", "--no-prompt", ...permissions, PROGRAM, "2"];
    const [command, ...args] = privilegedCommand([
      ...["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", ...run],
    ]);
    const { stdout, stderr } = await new Deno.Command(command!, { args }).output();
    const decoder = new TextDecoder();
    assertEquals(JSON.parse(decoder.decode(stdout)), ["host", "host"], decoder.decode(stderr));
  }, { programs: ["ip"] });
}
