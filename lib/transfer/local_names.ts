/**
 * What the names of a manifest become on this system, which may not be able to hold them as they are.
 *
 * @module
 */

/**
 * The name under which this system can hold a file. On POSIX systems all names are kept but those of this program's own
 * incomplete files. On Windows, characters and names that it reserves are replaced.
 */
export function localName(name: string, naming: "posix" | "windows"): string {
  let local = name;
  if (naming === "windows") {
    local = local.replaceAll(WINDOWS_RESERVED, "_");
    if (/[. ]$/.test(local)) local = `${local.slice(0, -1)}_`;
    if (WINDOWS_DEVICE.test(local)) local = `_${local}`;
  }
  return OWN.test(local) ? `${local}_` : local;
}

/** `photo (1).jpg` for `photo.jpg`. */
export function numberedName(path: string, number: number): string {
  const [, stem, extension] = /^(.*?[^/])((?:\.tar)?\.[^./]+)?$/s.exec(path)!;
  return `${stem} (${number})${extension ?? ""}`;
}

/** Whether a part of the path begins with a dot. */
export function isHidden(path: string): boolean {
  return path.startsWith(".") || path.includes("/.");
}

/** Whether this system would execute a file by its name alone. */
export function isExecutableName(path: string, naming: "posix" | "windows"): boolean {
  return naming === "windows" && WINDOWS_EXECUTABLE.test(path);
}

/**
 * The name of an incomplete file: it begins as the final name does, if there is room.
 *
 * @param key what the part is found again by
 */
export function partName(name: string, key: string): string {
  const end = `.${key}${PART_SUFFIX}`;
  return `${cut(name, MAX_NAME_BYTES - end.length)}${end}`;
}

/** The name of the record of a transfer. */
export function recordName(key: string): string {
  return `.punchline-${key}${RECORD_SUFFIX}`;
}

/** The name of the file that keeps a ticket. */
export function ticketName(key: string): string {
  return `.punchline-${key}${TICKET_SUFFIX}`;
}

/** The longest start of the text that has at most `maxBytes` bytes in UTF-8. */
function cut(text: string, maxBytes: number): string {
  const bytes = new Uint8Array(maxBytes);
  const { read } = new TextEncoder().encodeInto(text, bytes);
  return text.slice(0, read);
}

/** The suffix of incomplete files. Chosen by us. */
const PART_SUFFIX = ".punchline-part";

const RECORD_SUFFIX = ".punchline-transfer";

const TICKET_SUFFIX = ".punchline-ticket";

/** A file with such a name could pass for one of this program's own. */
const OWN = /\.punchline-(?:part|transfer|ticket)$/i;

// deno-lint-ignore no-control-regex
const WINDOWS_RESERVED = /[<>:"|?*\\\u0000-\u001f]/g;

/** Also with an extension: Windows opens the device whatever the folder. */
const WINDOWS_DEVICE = /^(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\.|$)/i;

const WINDOWS_EXECUTABLE =
  /\.(?:exe|com|bat|cmd|msi|msp|scr|pif|lnk|url|hta|cpl|jar|vbs?|vbe|jse?|wsf|wsh|ps1|psm1|reg)$/i;

/** NAME_MAX of eCryptfs, the least of the file systems in use; most have 255. */
const MAX_NAME_BYTES = 143;
