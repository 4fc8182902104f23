/** The part of npm's `sax` that `xml.ts` uses. */
declare namespace sax {
  interface SAXParser {
    onopentag: (tag: { readonly name: string }) => void;
    onclosetag: (name: string) => void;
    ontext: (text: string) => void;
    oncdata: (text: string) => void;
    onerror: (error: Error) => void;
    write(text: string): SAXParser;
    close(): SAXParser;
  }

  interface SAXOptions {
    readonly lowercase?: boolean;
    readonly strictEntities?: boolean;
    readonly noscript?: boolean;
    readonly position?: boolean;
  }

  function parser(strict: boolean, options: SAXOptions): SAXParser;
}

export default sax;
