/**
 * The garbage collector of the platform, for servers. V8 is made for programs that want to be fast: it lets a burst of work
 * take some 60 MB of new objects, and keeps that memory. It also does not see what the system's sockets take besides their
 * objects, so thousands of sockets that are closed already can wait for the next collection.
 *
 * @module
 */

import v8 from "node:v8";
import vm from "node:vm";

/** How much to collect: `garbage` takes some 20 ms, `everything` some 100 ms, and returns unused pages to the system. */
export type CollectGarbage = (what: "garbage" | "everything") => void;

/**
 * From now on, V8 prefers to be small to being fast, and gives memory back once the program has been quiet for half a
 * minute.
 *
 * @returns collects at once; does nothing if the platform does not offer that
 */
export function preferSmallMemory(): CollectGarbage {
  try {
    for (const flag of ["--optimize-for-size", "--expose-gc"]) v8.setFlagsFromString(flag);
    const collect: unknown = vm.runInNewContext("gc"); // only a new context has what the flag exposes
    if (typeof collect !== "function") return () => {};
    return (what) => {
      const flavor = what === "everything" ? "last-resort" : "regular";
      collect({ type: "major", execution: "sync", flavor });
    };
  } catch {
    return () => {}; // another runtime: a server of more memory
  }
}
