// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * The ciphers that records could have: 64 KiB sealed and opened, in this thread by `node:crypto`, or by Web Crypto in
 * others.
 *
 * @module
 */

import { cpuSeconds } from "./cpu_seconds.ts";
import { createCipheriv, createDecipheriv } from "node:crypto";

/** Measures them, and prints how many megabytes a second and how many seconds of the processor each takes. */
export async function measureCiphers(): Promise<void> {
  console.log("records of 64 KiB sealed and opened, alone: MB/s of both together, CPU s/GB");
  const key = crypto.getRandomValues(new Uint8Array(32));
  for (const algorithm of ["chacha20-poly1305", "aes-256-gcm"] as const) {
    await timeCipher(`node:crypto ${algorithm}`, 1, (data) => {
      const nonce = new Uint8Array(12);
      const cipher = createCipheriv(algorithm as "aes-256-gcm", key, nonce, { authTagLength: 16 });
      const sealed = cipher.update(data);
      cipher.final();
      const decipher = createDecipheriv(algorithm as "aes-256-gcm", key, nonce, {
        authTagLength: 16,
      });
      decipher.setAuthTag(cipher.getAuthTag());
      decipher.update(sealed);
      decipher.final();
    });
  }
  const imported = await crypto.subtle.importKey("raw", key, "AES-GCM", false, [
    "encrypt",
    "decrypt",
  ]);
  const parameters = { name: "AES-GCM", iv: new Uint8Array(12) };
  for (const atOnce of [1, 4]) {
    await timeCipher(`Web Crypto AES-GCM, ${atOnce} at once`, atOnce, async (data) => {
      const sealed = await crypto.subtle.encrypt(parameters, imported, data);
      await crypto.subtle.decrypt(parameters, imported, sealed);
    });
  }
}

async function timeCipher(
  name: string,
  atOnce: number,
  use: (data: Uint8Array<ArrayBuffer>) => void | Promise<void>,
): Promise<void> {
  const data = new Uint8Array(RECORD_BYTES);
  for (let i = 0; i < 200; i++) await use(data);
  const [startMs, before] = [performance.now(), cpuSeconds(Deno.pid)];
  for (let i = 0; i < RECORDS; i += atOnce) {
    await Promise.all(Array.from({ length: atOnce }, () => use(data)));
  }
  const bytes = RECORDS * RECORD_BYTES;
  const rate = bytes / 1000 / (performance.now() - startMs);
  print(name, rate.toFixed(0), ((cpuSeconds(Deno.pid) - before) / (bytes / 1e9)).toFixed(2));
}

/** Prints a row of figures. */
export function print(name: string, ...figures: string[]): void {
  console.log(`  ${name.padEnd(46)}${figures.map((figure) => figure.padStart(8)).join("")}`);
}

const RECORD_BYTES = 65_536;
const RECORDS = 4000;
