/**
 * docs/api.md: the public names with their declarations and what the code says of them. Read from the declarations that the build
 * writes (`dist/**` + `.d.ts`), so the page cannot say what the code does not.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

export interface Entry {
  /** What users import from. */
  readonly module: string;
  /** The built declaration of the entry, below dist. */
  readonly file: string;
}

interface Exported {
  readonly name: string;
  /** The declaration file below dist; the entry itself where it is declared there. */
  readonly file: string;
  /** `export * as name`. */
  readonly namespace: boolean;
}

const INTRODUCTION = `# API

Written by \`npm run docs:api\` from the declarations of the package; a test holds it to the code. The concepts are in
[ARCHITECTURE.md](../ARCHITECTURE.md), operators of your own in [plugins.md](plugins.md).
`;
/** Longer declarations are shown by their first lines: tables of rows say little here. */
const MOST_LINES = 60;

/** The page for entries whose declarations lie in `dist`. A name that two entries export is described once. */
export function apiPage(dist: string, entries: readonly Entry[]): string {
  const described = new Map<string, string>();
  const sections = entries.map(({ module, file }) => {
    const parts = exportsOf(dist, file).map((exported) => {
      const key = `${exported.file} ${exported.name}`;
      const known = described.get(key);
      described.set(key, module);
      return known === undefined ? describe(dist, exported) : `### ${exported.name}\n\nAs in \`${known}\`.`;
    });
    return `## ${module}\n\n${parts.join('\n\n')}`;
  });
  return `${INTRODUCTION}\n${sections.join('\n\n')}\n`;
}

/** What the entry exports, by name. */
function exportsOf(dist: string, file: string): readonly Exported[] {
  const text = readFileSync(join(dist, file), 'utf8');
  const found: Exported[] = [];
  const resolve = (from: string) =>
    normalize(join(dirname(file), from))
      .replace(/\.js$/, '.d.ts')
      .replace(/(?<!\.d)\.ts$/, '.d.ts');
  for (const [, names, from] of text.matchAll(/^export (?:type )?\{([^}]*)\} from '([^']+)';/gm)) {
    for (const part of names.split(',')) {
      const name = part.trim().replace(/^type /, '');
      if (name !== '') found.push({ name, file: resolve(from), namespace: false });
    }
  }
  for (const [, name, from] of text.matchAll(/^export \* as (\w+) from '([^']+)';/gm))
    found.push({ name, file: resolve(from), namespace: true });
  for (const [, name] of text.matchAll(/^export declare (?:const|function|class) (\w+)/gm))
    found.push({ name, file, namespace: false });
  return found.sort((a, b) => (a.name.toLowerCase() < b.name.toLowerCase() ? -1 : 1));
}

function describe(dist: string, { name, file, namespace }: Exported): string {
  const text = readFileSync(join(dist, file), 'utf8');
  if (namespace)
    return `### ${name}\n\n${commentText(/^\/\*\*[\s\S]*?\*\//.exec(text)?.[0] ?? '')}\n\nIts functions: ${namesIn(text)}.`;
  const { comment, code } = declarationOf(text, name, file);
  const lines = code.split('\n');
  const shown = lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES), '    // …', lines.at(-1)] : lines;
  const prose = commentText(comment);
  return `### ${name}\n\n${prose === '' ? '' : `${prose}\n\n`}\`\`\`ts\n${shown.join('\n')}\n\`\`\``;
}

const namesIn = (text: string): string =>
  [...text.matchAll(/^export declare (?:const|function) (\w+)/gm)].map(([, name]) => `\`${name}\``).join(', ');

/** The declaration of a name with the comment before it. Throws where there is none. */
function declarationOf(text: string, name: string, file: string): { readonly comment: string; readonly code: string } {
  const pattern = new RegExp(
    `((?:^/\\*\\*(?:(?!\\*/)[\\s\\S])*?\\*/\\n)?)^export (?:declare )?(?:abstract )?(?:const|function|class|interface|type) ${name}\\b`,
    'm',
  );
  const match = pattern.exec(text);
  if (!match) throw new Error(`${file} does not declare ${name}`);
  const start = match.index + match[1].length;
  return {
    comment: match[1],
    code: text
      .slice(start, endOf(text, start))
      .replace(/^export (?:declare )?/, '')
      .trim(),
  };
}

/** Where a declaration that starts at `start` ends: at the first semicolon or closing brace outside of brackets. Overloads follow. */
function endOf(text: string, start: number): number {
  let depth = 0;
  for (let i = start; i < text.length; i++) {
    if (text.startsWith('/*', i)) i = text.indexOf('*/', i) + 1;
    else if (text[i] === "'") i = text.indexOf("'", i + 1);
    else if ('([{'.includes(text[i])) depth++;
    else if (')]}'.includes(text[i])) {
      depth--;
      if (depth === 0 && text[i] === '}' && text[i + 1] === '\n') return i + 1;
    } else if (text[i] === ';' && depth === 0) return i + 1;
  }
  return text.length;
}

const commentText = (comment: string): string =>
  comment
    .replace(/^\/\*\*\s?|\s*\*\/\s*$/g, '')
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, '').trimEnd())
    .join('\n')
    .trim();
