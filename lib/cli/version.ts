/**
 * The version of this program. A file of its own because it is the only one that reads `deno.json`: both the command
 * line and the man page need it, and neither may import the other.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };

/** As `--version` and the man page have it. */
export const VERSION: string = config.version;
