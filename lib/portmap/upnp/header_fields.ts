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
 * Parses a head. Empty lines may come before it, lines may end with a bare LF, names may be in any case, and a line that
 * starts with a space or a tab continues the one before (RFC 9112 §2.2, §5.2). Lines that are not fields are skipped.
 *
 * @param what names the message in errors
 * @param options.isDatagram whether the message has no body, so that fields may follow an empty line, as they do in the
 *   answers of some devices
 * @throws {MalformedMessageError} if there is no start line, or there are too many fields
 */
export function parseHead(
  text: string,
  what: string,
  options: { readonly isDatagram?: boolean } = {},
): Head {
  const [startLine = "", ...lines] = text.trimStart().replaceAll(FOLD, " ").split(LINE_END);
  if (startLine === "") throw malformed(what, "it has no start line");
  const fields = new Map<string, string>();
  for (const line of lines) {
    if (line === "" && !options.isDatagram) break;
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
 * The status code in a line such as `HTTP/1.1 200 OK`. The reason may be missing, and the space before it too, and the
 * version may be any.
 *
 * @throws {MalformedMessageError} if it is not the start line of a response
 */
export function parseStatusLine(startLine: string, what: string): number {
  const status = STATUS_LINE.exec(startLine)?.[1];
  if (status === undefined) {
    const start = JSON.stringify(startLine.slice(0, 40));
    throw malformed(what, `no status line, but ${start}`);
  }
  return Number(status);
}

const LINE_END = /\r?\n/;

/** The end of a line that the next one continues, unless that is an indented field. */
const FOLD = /\r?\n[ \t]+(?=\S)(?![\w-]+:(?!\/\/))/g;

const STATUS_LINE = /^HTTP\/\d(?:\.\d)?\s+([1-5]\d\d)(?!\d)/i;

/** Chosen by us: devices send about ten. */
const MAX_FIELDS = 100;
