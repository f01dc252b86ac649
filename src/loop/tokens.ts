/**
 * The words of a printed kernel, read one after the other; what parse.ts and parse-expr.ts are written with.
 *
 * Text comes from strangers: every failure is ModelError `engine-parse` with a line number, and nesting is bounded.
 */
import { type DType, isDType } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { RESERVED } from './print.ts';

/** Nesting of statements, parentheses and operands. */
export const MAX_DEPTH = 1000;
const MAX_INT = 2 ** 31 - 1;

const TOKEN =
  /\s+|([A-Za-z_][A-Za-z0-9_]*)|("[^"\\\n]*(?:\\.[^"\\\n]*)*")|(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(\/\/|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%<>=!~&|^(){}[\],:#])/y;

/** Of the groups of TOKEN. */
const KINDS = ['word', 'string', 'number', 'sign'] as const;

export interface Token {
  readonly kind: 'word' | 'string' | 'number' | 'sign' | 'end';
  readonly text: string;
  readonly at: number;
}

export class TokenReader {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = this.#lex();
  }

  #lex(): Token[] {
    const tokens: Token[] = [];
    TOKEN.lastIndex = 0;
    for (let at = 0; at < this.#text.length; at = TOKEN.lastIndex) {
      const match = TOKEN.exec(this.#text);
      if (!match) throw this.error(at, `unexpected ${JSON.stringify(this.#text[at])}`);
      for (let group = 1; group < match.length; group++) {
        const text = match[group];
        if (text !== undefined) tokens.push({ kind: KINDS[group - 1], text, at });
      }
    }
    tokens.push({ kind: 'end', text: 'the end', at: this.#text.length });
    return tokens;
  }

  /** The error for what stands at an offset of the text. */
  error(at: number, message: string): ModelError {
    const line = this.#text.slice(0, at).split('\n').length;
    return new ModelError('engine-parse', `kernel text, line ${line}: ${message}`);
  }
  /** The same for the token just taken. */
  fail(message: string): never {
    throw this.error(this.#tokens[Math.max(0, this.#next - 1)].at, message);
  }

  /** The next token. */
  get token(): Token {
    return this.#tokens[this.#next];
  }
  /** The token that is `n` after the next one. */
  ahead(n: number): Token {
    return this.#tokens[Math.min(this.#next + n, this.#tokens.length - 1)];
  }
  /** Takes the next token, whatever it is. */
  advance(): Token {
    const token = this.token;
    if (token.kind !== 'end') this.#next++;
    return token;
  }
  /** Takes the token where it is this sign or word. */
  take(text: string): boolean {
    const { kind, text: got } = this.token;
    if (got !== text || (kind !== 'sign' && kind !== 'word')) return false;
    this.#next++;
    return true;
  }
  expect(text: string): void {
    if (!this.take(text)) throw this.error(this.token.at, `expected "${text}", got ${this.token.text.slice(0, 40)}`);
  }
  /** True where a name is next: a quoted one or a word that is not reserved. */
  isName(): boolean {
    const { kind, text } = this.token;
    return kind === 'string' || (kind === 'word' && !RESERVED.has(text));
  }
  name(): string {
    if (!this.isName()) throw this.error(this.token.at, `expected a name, got ${this.token.text.slice(0, 40)}`);
    const { kind, text } = this.#tokens[this.#next++];
    if (kind === 'word') return text;
    try {
      return JSON.parse(text) as string;
    } catch {
      return this.fail('a quoted name has a bad escape');
    }
  }
  /** A bare word of a closed set. */
  word(what: string, allowed: (text: string) => boolean): string {
    const { kind, text, at } = this.token;
    if (kind !== 'word' || !allowed(text)) throw this.error(at, `expected ${what}, got ${text.slice(0, 40)}`);
    this.#next++;
    return text;
  }
  dtype(): DType {
    return this.word('a dtype', isDType) as DType;
  }
  /** An integer of at most 31 bits and a sign. */
  int(): number {
    const negative = this.take('-');
    const { kind, text, at } = this.token;
    const value = Number(text);
    if (kind !== 'number' || !Number.isInteger(value) || value > MAX_INT) throw this.error(at, 'expected an integer');
    this.#next++;
    return negative && value !== 0 ? -value : value;
  }
  /** An integer of at least 0. */
  count(): number {
    const value = this.int();
    return value < 0 ? this.fail('expected no negative number') : value;
  }
  /** Items parted by commas, at least one. */
  list<T>(item: () => T): T[] {
    const items = [item()];
    while (this.take(',')) items.push(item());
    return items;
  }
  /** Parses one level deeper. */
  nested<T>(parse: () => T): T {
    if (++this.#depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
    const result = parse();
    this.#depth--;
    return result;
  }
}
