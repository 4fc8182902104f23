/**
 * Opens connections of one key to a `listen --tcp` whose service does not read, fills their windows, and prints how much
 * memory the program holds for that: `deno run -A tests/hostile/programs/held_windows.ts 40`
 *
 * @module
 */

import { heldWindowsMb } from "../held_windows.ts";

const connections = Number(Deno.args[0] ?? 40);
const heldMb = await heldWindowsMb(connections, 6000);
Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify({ connections, heldMb })}\n`));
Deno.exit();
