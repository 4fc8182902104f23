/**
 * Local ports of our own choice, for the patterns that NATs make of them.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";

/**
 * Opens something on each of several consecutive local ports, chosen at random.
 *
 * @param open on one port; what it opened is disposed again if another port of the row is taken
 * @returns `undefined` if no free row was found in a few attempts
 */
export async function openConsecutive<T extends Disposable>(
  count: number,
  open: (port: number) => Promise<T>,
): Promise<T[] | undefined> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const first = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT - count));
    const opened: T[] = [];
    try {
      for (let port = first; port < first + count; port++) opened.push(await open(port));
      return opened;
    } catch (error) {
      for (const each of opened) each[Symbol.dispose]();
      if (!(error instanceof NetworkError && error.reason === "address-in-use")) throw error;
    }
  }
  return undefined;
}

/** Below the ports that systems give out by themselves, above most services; ours. */
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;

const ATTEMPTS = 5;
