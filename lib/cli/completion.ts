/**
 * `completion`: a script that makes Tab complete commands and options in a shell; and `complete`, which that script calls
 * at each Tab. The scripts know nothing of the commands, so they never have to be installed again.
 *
 * @module
 */

import { readCommand } from "./arguments.ts";
import { type Candidate, type Completion, completionsOf } from "./completion_plan.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";

/** Runs the command; returns its exit code. */
export function completion(args: readonly string[], io: CliIo): number {
  const { operands } = readCommand("completion", args);
  const script = SCRIPTS[operands[0]!];
  if (script === undefined) {
    throw new UsageError(`completion takes bash, zsh or fish, not ${operands[0]}`);
  }
  io.out(script.trim());
  return EXIT.ok;
}

/** Runs the command: prints what the last of the words may become, one per line, with its help behind a tab. */
export async function complete(args: readonly string[], io: CliIo): Promise<number> {
  const words = args[0] === "--" ? args.slice(1) : args;
  const completion = completionsOf(words);
  const { targets: kind } = completion;
  const targets = kind === undefined ? [] : await targetsFor(words.at(-1) ?? "", kind);
  const candidates = [...completion.candidates, ...targets];
  for (const line of linesOf({ ...completion, candidates })) io.out(line);
  return EXIT.ok;
}

/** Names of friends; and, for a target, codes whose next word is being typed. */
async function targetsFor(text: string, kind: "friend" | "target"): Promise<Candidate[]> {
  const [{ completeCode }, { readConfig }] = await Promise.all([
    import("../code/code.ts"),
    import("./config.ts"),
  ]);
  const { peers } = await readConfig();
  return [
    ...[...peers.keys()].filter((name) => name.startsWith(text))
      .map((name) => ({ text: name, help: "a friend" })),
    ...kind === "target" ? completeCode(text).map((text) => ({ text, help: "" })) : [],
  ];
}

/** A line that starts with a colon tells the shell to complete names of files by itself. */
function linesOf({ candidates, paths }: Completion): string[] {
  return [
    ...candidates.map(({ text, help }) => help === "" ? text : `${text}\t${help}`),
    ...paths === undefined ? [] : [`:${paths}`],
  ];
}

const BASH = `
# Completion of punchline for bash, for ~/.bash_completion or a file that ~/.bashrc reads.
_punchline() {
  local current="\${COMP_WORDS[COMP_CWORD]}" line
  COMPREPLY=()
  while IFS= read -r line; do
    case "$line" in
      :file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
      :folder) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
      *-) compopt -o nospace; COMPREPLY+=("$line") ;; # a code goes on
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <("$1" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _punchline punchline
`;

const ZSH = `
#compdef punchline
# Completion of punchline for zsh, for a file _punchline in a folder of $fpath, or one that ~/.zshrc reads.
_punchline() {
  local line
  local -a described
  for line in "\${(@f)$("$words[1]" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    case "$line" in
      :file) _files; return ;;
      :folder) _files -/; return ;;
      *-) compadd -S '' -- "$line" ;; # a code goes on
      ?*) described+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
    esac
  done
  _describe punchline described
}
if [[ "$funcstack[1]" == _punchline ]]; then _punchline "$@"; else compdef _punchline punchline; fi
`;

const FISH = `
# Completion of punchline for fish, for ~/.config/fish/completions/punchline.fish.
function __punchline_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (punchline complete -- $words[2..-1] 2>/dev/null)
        switch $line
            case ':file'
                __fish_complete_path (commandline -ct)
            case ':folder'
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete --command punchline --no-files --arguments '(__punchline_complete)'
`;

const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
