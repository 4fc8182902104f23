import { concat } from "../../lib/base/bytes.ts";
import type { ByteSource } from "../../lib/base/reader.ts";
import type { Chunks } from "../../lib/cli/stdin_chunks.ts";

/** A stream as stdin; not to be read by anything else. */
export function stdinOf(stream: ReadableStream<Uint8Array>): ByteSource {
  const reader = stream.getReader();
  let rest = new Uint8Array(0);
  return {
    async read(buffer) {
      while (rest.length === 0) {
        const { done, value } = await reader.read();
        if (done) return null;
        rest = value.slice();
      }
      const length = Math.min(rest.length, buffer.length);
      buffer.set(rest.subarray(0, length));
      rest = rest.subarray(length);
      return length;
    },
  };
}

/** All that is left in the chunks. */
export async function textOf(chunks: Chunks): Promise<string> {
  const copies: Uint8Array[] = [];
  for (let chunk; (chunk = await chunks.next()) !== null;) copies.push(chunk.slice());
  return new TextDecoder().decode(concat(...copies));
}
