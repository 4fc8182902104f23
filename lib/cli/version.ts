/**
 * The version of this program.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };

/** As `--version` and the man page have it. */
export const VERSION: string = config.version;
