export function manPage(): string {
  return "";
}
