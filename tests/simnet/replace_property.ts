/**
 * Replacing parts of the platform in tests.
 *
 * @module
 */

/**
 * Replaces a property of a platform object.
 *
 * @returns a function that restores the old value
 * @throws {TypeError} if there is no such property
 */
export function replaceProperty(target: object, key: string, value: unknown): () => void {
  const descriptor = Object.getOwnPropertyDescriptor(target, key);
  if (descriptor === undefined) throw new TypeError(`Cannot replace ${key}: it does not exist`);
  Object.defineProperty(target, key, { value, configurable: true, writable: true });
  return () => Object.defineProperty(target, key, descriptor);
}
