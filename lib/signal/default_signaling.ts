/**
 * How peers signal who have not been told how.
 *
 * @module
 */

/** Within a LAN. */
export const DEFAULT_SIGNALING: readonly string[] = ["lan:"];
