/**
 * XML as routers write it: the part of XML 1.0 that UPnP needs, parsed leniently and within bounds.
 *
 * Real devices leave tags unclosed, misuse namespaces and disagree about case, so names have no prefix and are in lower
 * case. Attributes are dropped, because UPnP puts nothing in them. The parser is npm's `sax`, because it keeps its own
 * stack (so depth can be capped as it grows) and defines no entities but XML's five. A document with a DOCTYPE, which
 * UPnP does not use, is rejected, so there are no entities to expand.
 *
 * @module
 */

// @ts-types="./sax.d.ts"
import sax from "sax";
import { malformed } from "../../base/errors.ts";

/** An element. */
export interface XmlElement {
  /** In lower case, without its namespace prefix. */
  readonly name: string;
  readonly children: readonly XmlElement[];
  /** The text directly in it, joined and trimmed. */
  readonly text: string;
}

/**
 * Parses a document. It is UTF-8 if it is valid UTF-8, whatever it claims to be; otherwise in the encoding that it names
 * (XML 1.0 appendix F).
 *
 * @example
 * ```ts
 * import { childText, parseXml } from "./xml.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const root = parseXml(new TextEncoder().encode("<s:Body><A>1 &lt; 2</A></s:Body>"));
 * assertEquals(root.name, "body");
 * assertEquals(childText(root, "a"), "1 < 2");
 * ```
 *
 * @returns the root element
 * @throws {MalformedMessageError} if there is no element, it has a DOCTYPE, or it is too large or too deep
 */
export function parseXml(bytes: Uint8Array): XmlElement {
  if (bytes.length > MAX_BYTES) throw malformed("XML", `${bytes.length} bytes are too many`);
  const text = decodeText(bytes).replace(BEFORE, "");
  if (DECLARATION.test(text)) throw malformed("XML", "it has a DOCTYPE or another declaration");
  const top = new OpenElement("");
  const open = [top];
  let elements = 0;

  const parser = sax.parser(false, {
    lowercase: true,
    strictEntities: true,
    noscript: true,
    position: false,
  });
  parser.onopentag = ({ name }) => {
    if (open.length > MAX_DEPTH) throw malformed("XML", `it is more than ${MAX_DEPTH} levels deep`);
    if (++elements > MAX_ELEMENTS) throw malformed("XML", `more than ${MAX_ELEMENTS} elements`);
    const element = new OpenElement(name.slice(name.indexOf(":") + 1));
    open.at(-1)!.children.push(element);
    open.push(element);
  };
  parser.onclosetag = () => open.pop();
  parser.ontext = parser.oncdata = (text) => open.at(-1)!.texts.push(text);
  parser.onerror = (error) => {
    throw malformed("XML", error.message.toLowerCase(), error);
  };
  parser.write(text).close();

  const [root] = top.children;
  if (root === undefined) throw malformed("XML", "there is no element");
  return root;
}

/**
 * How much of a document the bytes are: whole if the root element ends near their end, otherwise cut; `"unknown"` if they
 * do not show a root element. Looks at both ends only.
 */
export function xmlExtent(bytes: Uint8Array): "whole" | "cut" | "unknown" {
  const start = asciiOf(bytes.subarray(0, HEAD_BYTES)).replaceAll(PROLOG, "").trimStart();
  const root = /^<([a-z_][\w:.-]*)/i.exec(start)?.[1]?.toLowerCase();
  if (root === undefined) return "unknown";
  const end = asciiOf(bytes.subarray(-TAIL_BYTES)).toLowerCase().replaceAll(/\s/g, "");
  if (end.includes(`</${root}>`)) return "whole";
  return /^<[^<>]*\/>$/.test(start.trim()) ? "whole" : "cut";
}

/** XML 1.0 appendix F: by the byte order mark, by the zeros of UTF-16, by validity, and by what the document names. */
function decodeText(bytes: Uint8Array): string {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe || second === 0 && first === LESS_THAN) {
    return new TextDecoder("utf-16le").decode(bytes);
  }
  if (first === 0xfe && second === 0xff || first === 0 && second === LESS_THAN) {
    return new TextDecoder("utf-16be").decode(bytes);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const named = /encoding\s*=\s*["']([\w.:-]+)["']/i.exec(asciiOf(bytes.subarray(0, HEAD_BYTES)));
    return decoderFor(named?.[1] ?? "utf-8").decode(bytes);
  }
}

/** Names that the platform does not know are read as UTF-8, where what matters is ASCII. */
function decoderFor(encoding: string): TextDecoder {
  try {
    return new TextDecoder(encoding);
  } catch (error) {
    if (error instanceof RangeError) return new TextDecoder();
    throw error;
  }
}

/** The ASCII characters in the bytes, without the zeros of UTF-16. */
function asciiOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.filter((byte) => byte > 0 && byte < 0x80));
}

/** The first child of that name, in any case. */
function childOf(element: XmlElement, name: string): XmlElement | undefined {
  const wanted = name.toLowerCase();
  return element.children.find((child) => child.name === wanted);
}

/** The text of the first child of that name, in any case; empty if there is none. */
export function childText(element: XmlElement, name: string): string {
  return childOf(element, name)?.text ?? "";
}

/** The first element of that name, in any case: this one or one in it, in the order of the document. */
export function findElement(element: XmlElement, name: string): XmlElement | undefined {
  const wanted = name.toLowerCase();
  const rest = [element];
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    if (next.name === wanted) return next;
    rest.push(...next.children.toReversed());
  }
  return undefined;
}

/**
 * Escapes text for the content of an element. Quotation marks need no escaping there, and stay: some routers choke on
 * their entities. Characters that XML 1.0 §2.2 does not allow are dropped.
 */
export function escapeXmlText(text: string): string {
  return text.replaceAll(NOT_XML, "")
    .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

class OpenElement implements XmlElement {
  readonly name: string;
  readonly children: OpenElement[] = [];
  readonly texts: string[] = [];

  constructor(name: string) {
    this.name = name;
  }

  get text(): string {
    return this.texts.join("").trim();
  }
}

/**
 * What starts with `<!` and is neither a comment nor CDATA. Checked before parsing, because `sax` takes quadratic time
 * for one that does not end.
 */
const DECLARATION = /<!(?!--|\[CDATA\[)/i;

// deno-lint-ignore no-control-regex -- it matches control characters on purpose
const NOT_XML = /[\0-\x08\v\f\x0e-\x1f\ufffe\uffff]|\p{Surrogate}/gu;

/** The prolog (XML 1.0 §2.8): the declaration, comments and instructions before the root element. */
const PROLOG = /<\?[^]*?\?>|<!--[^]*?-->/g;

/** Stray characters before the document that some devices send, such as a misplaced byte order mark. */
const BEFORE = /^[^<]{1,64}/;

const LESS_THAN = 0x3c;

/** Chosen by us: declarations have about 60 bytes, and comments before the root element are rare. */
const HEAD_BYTES = 1024;

/** Chosen by us: names of root elements have about ten, and there may be blank lines at the end. */
const TAIL_BYTES = 256;

/** Chosen by us: the largest recorded description has 20 KiB. */
const MAX_BYTES = 1024 * 1024;

/** Chosen by us: descriptions are 10 levels deep, SOAP is 4. */
const MAX_DEPTH = 64;

/** Chosen by us: descriptions have a few hundred. */
const MAX_ELEMENTS = 20_000;
