/**
 * How long the platform's cipher takes within something else.
 *
 * @module
 */

import { createCipheriv, createDecipheriv } from "node:crypto";

/**
 * Adds up the time in the ciphers of `node:crypto` for as long as it is not disposed of, wherever they are called from:
 * code that is called now and then is slower than the same in a loop. What makes a cipher is not counted, as that may be
 * done ahead.
 */
export class CipherClock implements Disposable {
  readonly #restore: (() => void)[] = [];
  #elapsedMs = 0;

  constructor() {
    const [key, nonce] = [new Uint8Array(32), new Uint8Array(12)];
    this.#time(createCipheriv(ALGORITHM, key, nonce, OPTIONS), ["update", "final", "getAuthTag"]);
    this.#time(createDecipheriv(ALGORITHM, key, nonce, OPTIONS), ["setAuthTag", "update", "final"]);
  }

  /** Milliseconds so far, with what it costs to take the time. */
  get elapsedMs(): number {
    return this.#elapsedMs;
  }

  [Symbol.dispose](): void {
    for (const restore of this.#restore) restore();
  }

  #time(cipher: object, methods: readonly string[]): void {
    const prototype: Record<string, Method> = Object.getPrototypeOf(cipher);
    const add = (ms: number) => this.#elapsedMs += ms;
    for (const name of methods) {
      const method = prototype[name]!;
      this.#restore.push(() => prototype[name] = method);
      prototype[name] = function (first, second) {
        const start = performance.now();
        try {
          return method.call(this, first, second);
        } finally {
          add(performance.now() - start);
        }
      };
    }
  }
}

type Method = (this: unknown, first?: unknown, second?: unknown) => unknown;

const ALGORITHM = "chacha20-poly1305";
const OPTIONS = { authTagLength: 16 };
