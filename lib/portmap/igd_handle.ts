/**
 * What a UPnP grant has to remember beside what all grants do.
 *
 * @module
 */

/** In a {@linkcode MappingGrant.handle}. */
export type IgdHandle =
  | {
    readonly kind: "port";
    readonly serviceType: string;
    /** Under which name the mapping stands in the router: renewing it is to keep that. */
    readonly description: string;
  }
  | { readonly kind: "pinhole"; readonly uniqueId: number };

/** The handle as text. */
export function encodeHandle(handle: IgdHandle): string {
  return JSON.stringify(handle);
}

/**
 * Reads a handle.
 *
 * @throws {TypeError} if it is none that {@linkcode encodeHandle} wrote
 */
export function decodeHandle(text: string): IgdHandle {
  const handle = parse(text);
  if (typeof handle === "object" && handle !== null && "kind" in handle) {
    if (handle.kind === "pinhole" && "uniqueId" in handle && typeof handle.uniqueId === "number") {
      return { kind: "pinhole", uniqueId: handle.uniqueId };
    }
    if (
      handle.kind === "port" && "serviceType" in handle && "description" in handle &&
      typeof handle.serviceType === "string" && typeof handle.description === "string"
    ) {
      const { serviceType, description } = handle;
      return { kind: "port", serviceType, description };
    }
  }
  throw new TypeError(`Cannot use grant: its handle is ${JSON.stringify(text.slice(0, 80))}`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
