/**
 * Standing in for what the platform offers.
 *
 * @module
 */

/**
 * Gives a property of a platform object another value.
 *
 * @returns what puts the old one back
 * @throws {TypeError} if there is no such property
 */
export function replaceProperty(target: object, key: string, value: unknown): () => void {
  const descriptor = Object.getOwnPropertyDescriptor(target, key);
  if (descriptor === undefined) throw new TypeError(`Cannot replace ${key}: it does not exist`);
  Object.defineProperty(target, key, { value, configurable: true, writable: true });
  return () => Object.defineProperty(target, key, descriptor);
}
