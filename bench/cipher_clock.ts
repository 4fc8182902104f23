/**
 * Measures how much time of other work the platform's cipher takes.
 *
 * @module
 */

import { createCipheriv, createDecipheriv } from "node:crypto";

/**
 * Until it is disposed of, adds up the time in the ciphers of `node:crypto` while they do real work, because code that
 * is called now and then is slower than in a loop. Creating a cipher is not counted, since that can be done in advance.
 */
export class CipherClock implements Disposable {
  readonly #restore: (() => void)[] = [];
  #elapsedMs = 0;

  constructor() {
    const [key, nonce] = [new Uint8Array(32), new Uint8Array(12)];
    this.#time(createCipheriv(ALGORITHM, key, nonce, OPTIONS), ["update", "final", "getAuthTag"]);
    this.#time(createDecipheriv(ALGORITHM, key, nonce, OPTIONS), ["setAuthTag", "update", "final"]);
  }

  /** The milliseconds so far, including the cost of measuring. */
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
