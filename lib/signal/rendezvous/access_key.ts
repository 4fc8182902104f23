/**
 * The access key of a private rendezvous server: the first segment of the path of each request.
 *
 * @module
 */

import { equalSecrets, hash } from "../../base/crypto.ts";

/** The access key of one server. */
export class AccessKey {
  /** The key. */
  readonly text: string;
  readonly #digest: Uint8Array;

  /** @throws {TypeError} if it is not at least 16 letters, digits, `-` and `_`; the message does not repeat it */
  constructor(text: string) {
    if (!/^[A-Za-z0-9_-]{16,128}$/.test(text)) {
      throw new TypeError("Cannot use the access key: it has 16 to 128 letters, digits, - and _");
    }
    this.text = text;
    this.#digest = digestOf(text);
  }

  /** The path of a request without the key; `undefined` if the key is missing or wrong. Takes as long for each wrong key. */
  strip(path: string): string | undefined {
    const end = path.indexOf("/", 1);
    const isRight = equalSecrets(digestOf(path.slice(1, end < 0 ? undefined : end)), this.#digest);
    return isRight && end > 0 ? path.slice(end) : undefined;
  }
}

function digestOf(text: string): Uint8Array {
  return hash("sha256", new TextEncoder().encode(text));
}
