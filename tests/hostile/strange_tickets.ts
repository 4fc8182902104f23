/**
 * Tickets made byte by byte, since our own encoder may refuse to, and services of this host that they name.
 *
 * @module
 */

import { hash } from "../../lib/base/crypto.ts";
import { systemNetwork } from "../../lib/net/system.ts";

/** A ticket that names these URLs, whatever they are. */
export function ticketFor(...urls: readonly string[]): string {
  const key = new Uint8Array(48).fill(9);
  const texts = urls.map((url) => new TextEncoder().encode(url));
  const content = Uint8Array.of(
    ...[1, ...key, texts.length],
    ...texts.flatMap((text) => [text.length, ...text]),
  );
  return `punchline:${
    Uint8Array.of(...content, ...checksum(content)).toBase64({
      alphabet: "base64url",
      omitPadding: true,
    })
  }`;
}

function checksum(content: Uint8Array): Uint8Array {
  return hash("sha256", content).subarray(0, 4);
}

/** A service of this host that counts who connects, and keeps what is sent to it. */
export interface Service {
  readonly port: number;
  connections(): number;
  received(): string;
}

/** Runs the test with such a service at this address. */
export async function withService(
  ip: string,
  test: (service: Service) => Promise<void>,
): Promise<void> {
  const listener = await systemNetwork.listenTcp({ ip, port: 0 });
  let connections = 0;
  let received = "";
  const serving = (async () => {
    for (;;) {
      const connection = await listener.accept();
      connections++;
      const buffer = new Uint8Array(4096);
      const count = await connection.read(buffer).catch(() => null) ?? 0;
      received += new TextDecoder("latin1").decode(buffer.subarray(0, count));
      connection.reset();
    }
  })().catch(() => {});
  try {
    await test({
      port: listener.local.port,
      connections: () => connections,
      received: () => received,
    });
  } finally {
    listener.close();
    await serving;
  }
}
