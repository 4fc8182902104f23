/**
 * The start line and header fields that HTTP/1.1 and SSDP share (RFC 9112 §2 and §5), as routers write them.
 *
 * @module
 */

import { malformed } from "../../base/errors.ts";

/** A start line and the header fields that follow it. */
export interface Head {
  readonly startLine: string;
  /** By name in lower case; of fields with the same name, the first. */
  readonly fields: ReadonlyMap<string, string>;
}

/**
 * Parses a head. Lines may end with a bare LF, and names may be in any case. Lines that are not fields are skipped.
 *
 * @param what names the message in errors
 * @throws {MalformedMessageError} if the start line is empty, or there are too many fields
 */
export function parseHead(text: string, what: string): Head {
  const [startLine = "", ...lines] = text.split(/\r?\n/);
  if (startLine.trim() === "") {
    throw malformed(what, "it has no start line");
  }
  const fields = new Map<string, string>();
  for (const line of lines) {
    if (line === "") break;
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0)).trim().toLowerCase();
    if (name === "" || fields.has(name)) continue;
    if (fields.size === MAX_FIELDS) {
      throw malformed(what, `more than ${MAX_FIELDS} fields`);
    }
    fields.set(name, line.slice(colon + 1).trim());
  }
  return { startLine: startLine.trim(), fields };
}

/**
 * The status code in a line such as `HTTP/1.1 200 OK`. The reason may be missing, and the space before it too.
 *
 * @throws {MalformedMessageError} if it is not the start line of a response
 */
export function parseStatusLine(startLine: string, what: string): number {
  const status = /^HTTP\/1\.[01]\s+([1-5]\d\d)(?!\d)/i.exec(startLine)?.[1];
  if (status === undefined) {
    const start = JSON.stringify(startLine.slice(0, 40));
    throw malformed(what, `no status line, but ${start}`);
  }
  return Number(status);
}

/** Chosen by us: devices send about ten. */
const MAX_FIELDS = 100;
