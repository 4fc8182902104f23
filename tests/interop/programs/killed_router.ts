/**
 * Starts a home router, prints the process ids of what holds its namespaces, and never ends itself.
 *
 * @module
 */

import { HomeRouter } from "../miniupnpd.ts";

await using home = await HomeRouter.start();
const holders = [home.host, home.router, home.outside].map(({ pid }) => pid);
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify(holders));
await home.host.output("sleep", ["1000"]);
