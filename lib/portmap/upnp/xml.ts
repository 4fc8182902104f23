/**
 * XML as routers write it: what UPnP needs of XML 1.0, read leniently and within bounds.
 *
 * Real devices leave tags unclosed, misuse namespaces and disagree about case, so names come without prefix and
 * in lower case, and attributes are left out: UPnP says nothing in them. The parser is npm's `sax`, because it keeps
 * its own stack (so that depth can be capped as it grows) and defines no entities but XML's five. Documents with
 * a DOCTYPE, which UPnP has no use for, are refused: there is nothing to expand.
 *
 * @module
 */

// @ts-types="./sax.d.ts"
import sax from "sax";
import { MalformedMessageError } from "../../base/errors.ts";

/** An element. */
export interface XmlElement {
  /** In lower case, without its namespace prefix. */
  readonly name: string;
  readonly children: readonly XmlElement[];
  /** The text directly in it, joined and without white space around it. */
  readonly text: string;
}

/**
 * Reads a document, which is UTF-8 whatever it claims to be.
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
 * @throws {MalformedMessageError} if there is none, it has a DOCTYPE, or it is too large or too deep
 */
export function parseXml(bytes: Uint8Array): XmlElement {
  if (bytes.length > MAX_BYTES) throw malformed(`${bytes.length} bytes are too many`);
  const text = new TextDecoder().decode(bytes);
  if (DECLARATION.test(text)) throw malformed("it has a DOCTYPE or another declaration");
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
    if (open.length > MAX_DEPTH) throw malformed(`elements are more than ${MAX_DEPTH} deep`);
    if (++elements > MAX_ELEMENTS) throw malformed(`there are more than ${MAX_ELEMENTS} elements`);
    const element = new OpenElement(name.slice(name.indexOf(":") + 1));
    open.at(-1)!.children.push(element);
    open.push(element);
  };
  parser.onclosetag = () => open.pop();
  parser.ontext = parser.oncdata = (text) => open.at(-1)!.texts.push(text);
  parser.onerror = (error) => {
    throw malformed(error.message.toLowerCase(), error);
  };
  parser.write(text).close();

  const [root] = top.children;
  if (root === undefined) throw malformed("there is no element");
  return root;
}

/** The first child of that name, in any case. */
export function childOf(element: XmlElement, name: string): XmlElement | undefined {
  const wanted = name.toLowerCase();
  return element.children.find((child) => child.name === wanted);
}

/** The text of the first child of that name, in any case; empty if there is none. */
export function childText(element: XmlElement, name: string): string {
  return childOf(element, name)?.text ?? "";
}

/** The first element of that name, in any case: this one, or below it in the order of the document. */
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
 * Text as the content of an element. Quotation marks mean nothing there and are left alone: some routers choke on
 * their entities. Characters that XML 1.0 §2.2 does not allow are left out.
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

function malformed(reason: string, cause?: unknown): MalformedMessageError {
  return new MalformedMessageError(`Cannot read XML: ${reason}`, { cause });
}

/**
 * What begins with `<!` and is neither a comment nor CDATA. It is looked for beforehand, because `sax` takes time by
 * the square of its length for one that does not end.
 */
const DECLARATION = /<!(?!--|\[CDATA\[)/i;

// deno-lint-ignore no-control-regex -- they are what it is for
const NOT_XML = /[\0-\x08\v\f\x0e-\x1f\ufffe\uffff]|\p{Surrogate}/gu;

/** Ours: the largest description among the recorded ones has 20 KiB. */
const MAX_BYTES = 1024 * 1024;

/** Ours: descriptions are 10 deep, SOAP is 4. */
const MAX_DEPTH = 64;

/** Ours: descriptions have some hundred. */
const MAX_ELEMENTS = 20_000;
