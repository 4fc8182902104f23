/**
 * User names and passwords in URLs.
 *
 * @module
 */

/**
 * Decodes the user or the password of a URL.
 *
 * @param cannot the start of the message: what cannot be done with the URL
 * @throws {TypeError} if it is not percent-encoded UTF-8, or has control characters: whoever wrote them wants a server to
 * take the login for commands. The message repeats nothing of it
 */
export function decodeLogin(part: string, cannot: string): string {
  let text: string;
  try {
    text = decodeURIComponent(part);
  } catch (cause) {
    const why = "its user or password is not percent-encoded UTF-8";
    throw new TypeError(`${cannot}: ${why}`, { cause });
  }
  if (CONTROL.test(text)) {
    throw new TypeError(`${cannot}: its user or password has control characters`);
  }
  return text;
}

/** The decoded login of a URL, `USER:PASSWORD` or `""`. As {@linkcode decodeLogin} otherwise. */
export function loginOf(url: string, cannot: string): string {
  // The same part of the URL that a parser of any scheme may take for the login, however it treats backslashes.
  const [, login = ""] = /^[a-z+.-]+:\/*([^/?#]*)@/i.exec(url) ?? [];
  return decodeLogin(login, cannot);
}

/** Unicode's controls: C0, DEL and C1; and its line and paragraph separators. */
const CONTROL = /[\p{Cc}\u2028\u2029]/u;
