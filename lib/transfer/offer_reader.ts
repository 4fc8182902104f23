/**
 * Reads an offer, and checks it while it arrives.
 *
 * @module
 */

import { RunningHash } from "../base/crypto.ts";
import { malformed } from "../base/errors.ts";
import { TransferError } from "./files.ts";
import type { Manifest, ManifestEntry, SkippedEntry } from "./manifest.ts";
import { encodeTransferMessage, MAX_LIST_BYTES, OtherVersionError, VERSION } from "./message.ts";
import type { TransferMessageReader } from "./message_reader.ts";
import { checkLinks, ManifestChecker, MAX_MANIFEST_BYTES, type OfferLimits } from "./paths.ts";

/** An offer that breaks no rule. */
export interface Offer {
  readonly manifest: Manifest;
  readonly skipped: readonly SkippedEntry[];
  /** The same for the same manifest. */
  readonly digest: Uint8Array;
}

/**
 * Reads OFFER and what follows, up to OFFERED.
 *
 * @throws {TransferError} `version` if the other side is of another version, `unacceptable` if the offer breaks a rule
 * @throws as {@linkcode TransferMessageReader.next}
 */
export async function readOffer(
  reader: TransferMessageReader,
  limits: OfferLimits = {},
): Promise<Offer> {
  const { maxManifestBytes = MAX_MANIFEST_BYTES } = limits;
  await expectVersion(reader);
  const checker = new ManifestChecker(limits);
  const digest = new RunningHash("sha256");
  const manifest: ManifestEntry[] = [];
  const skipped: SkippedEntry[] = [];
  for (let bytes = 0;;) {
    const message = await reader.next(EXPECTED);
    if (message instanceof Uint8Array) throw malformed("type", "data was not expected");
    if (message.type === "entries") {
      for (const entry of message.entries) {
        checker.add(entry);
        manifest.push(entry);
      }
    } else if (message.type === "skipped") {
      for (const each of message.skipped) {
        checker.countEntry();
        skipped.push(each);
      }
    } else if (message.type === "offered") {
      const isAll = message.entries === manifest.length && message.skipped === skipped.length;
      if (!isAll) throw malformed("offered", "it does not match the entries");
      checker.end(skipped.length > 0);
      checkLinks(manifest);
      return { manifest, skipped, digest: digest.digest() };
    }
    const encoded = encodeTransferMessage(message);
    bytes += encoded.length;
    if (bytes > maxManifestBytes) throw tooLong(maxManifestBytes);
    digest.update(encoded);
  }
}

async function expectVersion(reader: TransferMessageReader): Promise<void> {
  try {
    await reader.expectOffer();
  } catch (error) {
    if (!(error instanceof OtherVersionError)) throw error;
    const { version } = error;
    throw new TransferError(
      `Cannot receive: the sender speaks version ${version} of the file protocol, and the receiver ` +
        `version ${VERSION}: update punchline at the ${version < VERSION ? "sender" : "receiver"}`,
      "version",
      { cause: error },
    );
  }
}

function tooLong(max: number): TransferError {
  return new TransferError(
    `Cannot accept the offer: its list of files is longer than the ${max} bytes allowed`,
    "unacceptable",
  );
}

const EXPECTED = { entries: MAX_LIST_BYTES, skipped: MAX_LIST_BYTES, offered: 8 };
