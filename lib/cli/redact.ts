/**
 * Texts that are about to be printed, without tickets and logins.
 *
 * @module
 */

import { withoutLogin } from "../base/redact.ts";

/** Removes tickets and logins from a text that is about to be printed. */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(/punchline:[\w-]{16,}/gi, "punchline:…")
    .replaceAll(
      /[a-z][a-z0-9+.-]*:[^\s"'`]*@/gi,
      (login) => login.includes("USER:PASSWORD") ? login : withoutLogin(login),
    );
}
