/**
 * A WebAssembly module put together from its parts: imports, functions, globals, data, exports, names (specification §5.5).
 *
 * In come parts in any order, out go the bytes, the same for the same calls. Imports must come before functions, since they
 * take the lowest indices. The name section (appendix, custom sections) lets profilers and traces show functions by name.
 */
import { Bug } from '../../core/errors.ts';
import { type Bytes, encodeInstruction, leb, nameBytes, VALTYPE_CODES, vector } from './encode.ts';
import type { ValType } from './instructions.ts';

export interface FuncType {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

/** Sizes in pages of 64 KiB. A shared memory needs a maximum. */
export interface MemoryType {
  readonly min: number;
  readonly max?: number;
  readonly shared?: boolean;
}

interface FunctionPart {
  readonly name: string;
  readonly type: number;
  /** Locals and instructions with the final `end`; absent where the function is imported or not yet defined. */
  body: Bytes | undefined;
}

const EXTERN_FUNC = 0;
const EXTERN_MEMORY = 2;
const PAGE_LIMIT = 65536;

export class ModuleBuilder {
  readonly #types: Bytes[] = [];
  readonly #typeIndices = new Map<string, number>();
  readonly #imports: Bytes[] = [];
  readonly #importedFunctions: string[] = [];
  readonly #functions: FunctionPart[] = [];
  readonly #memories: Bytes[] = [];
  readonly #globals: Bytes[] = [];
  readonly #exports: Bytes[] = [];
  readonly #data: Bytes[] = [];

  /** Index of a function type, shared by equal types. */
  type(type: FuncType): number {
    const bytes = [
      0x60,
      ...vector(type.params.map((t) => [VALTYPE_CODES[t]])),
      ...vector(type.results.map((t) => [VALTYPE_CODES[t]])),
    ];
    const key = bytes.join();
    const known = this.#typeIndices.get(key);
    if (known !== undefined) return known;
    this.#typeIndices.set(key, this.#types.length);
    return this.#types.push(bytes) - 1;
  }

  importMemory(module: string, name: string, type: MemoryType): void {
    this.#imports.push([...nameBytes(module), ...nameBytes(name), EXTERN_MEMORY, ...limits(type)]);
  }

  importFunction(module: string, name: string, type: FuncType): number {
    if (this.#functions.length > 0) throw new Bug('wasm-order', 'functions are imported before any is defined');
    this.#imports.push([...nameBytes(module), ...nameBytes(name), EXTERN_FUNC, ...leb(this.type(type))]);
    return this.#importedFunctions.push(name) - 1;
  }

  /** A memory of the module's own. */
  memory(type: MemoryType): void {
    this.#memories.push(limits(type));
  }

  /** Reserves a function's index, so that others can call it; `define` gives the body. */
  declare(name: string, type: FuncType): number {
    this.#functions.push({ name, type: this.type(type), body: undefined });
    return this.#importedFunctions.length + this.#functions.length - 1;
  }

  /** body: locals and instructions with the final `end`, without its size. */
  define(index: number, body: Bytes): void {
    this.#functions[index - this.#importedFunctions.length].body = body;
  }

  /** An i32 global. */
  global(value: number, mutable: boolean): number {
    const init = [...encodeInstruction('i32.const', [value]), ...encodeInstruction('end')];
    return this.#globals.push([VALTYPE_CODES.i32, mutable ? 1 : 0, ...init]) - 1;
  }

  /** Bytes that instantiation writes at a fixed address. */
  data(address: number, bytes: Bytes): void {
    const offset = [...encodeInstruction('i32.const', [address]), ...encodeInstruction('end')];
    this.#data.push([0, ...offset, ...leb(bytes.length), ...bytes]);
  }

  exportFunction(name: string, index: number): void {
    this.#exports.push([...nameBytes(name), EXTERN_FUNC, ...leb(index)]);
  }

  exportMemory(name: string): void {
    this.#exports.push([...nameBytes(name), EXTERN_MEMORY, 0]);
  }

  build(): Uint8Array {
    const bodies = this.#functions.map(({ name, body }) => {
      if (body === undefined) throw new Bug('wasm-undefined', `function ${name} was declared and never defined`);
      return body;
    });
    const code = bodies.flatMap((body) => [leb(body.length), body]);
    const out = new ByteSink();
    out.push([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
    section(out, 1, this.#types);
    section(out, 2, this.#imports);
    section(
      out,
      3,
      this.#functions.map((f) => leb(f.type)),
    );
    section(out, 5, this.#memories);
    section(out, 6, this.#globals);
    section(out, 7, this.#exports);
    section(out, 10, code, bodies.length);
    section(out, 11, this.#data);
    this.#names(out);
    return out.bytes();
  }

  /** Custom section `name`, subsection 1: a map from function index to name. */
  #names(out: ByteSink): void {
    const all = [...this.#importedFunctions, ...this.#functions.map((f) => f.name)];
    if (all.length === 0) return;
    const map = vector(all.map((name, i) => [...leb(i), ...nameBytes(name)]));
    const payload = [...nameBytes('name'), 1, ...leb(map.length), ...map];
    out.push([0, ...leb(payload.length)]);
    out.push(payload);
  }
}

function limits({ min, max, shared }: MemoryType): Bytes {
  if (shared && max === undefined) throw new Bug('wasm-memory', 'a shared memory needs a maximum');
  if (min > PAGE_LIMIT || (max ?? 0) > PAGE_LIMIT)
    throw new Bug('wasm-memory', `a memory has at most ${PAGE_LIMIT} pages`);
  return max === undefined ? [0, ...leb(min)] : [shared ? 3 : 1, ...leb(min), ...leb(max)];
}

/** Nothing where there are no items: empty sections are legal but only cost bytes. `count` where an item spans several parts. */
function section(out: ByteSink, id: number, parts: readonly Bytes[], count = parts.length): void {
  if (count === 0) return;
  const head = leb(count);
  const size = parts.reduce((n, part) => n + part.length, head.length);
  out.push([id, ...leb(size)]);
  out.push(head);
  for (const part of parts) out.push(part);
}

/** Bytes that grow by doubling: spreading a large body into an argument list would overflow the stack. */
class ByteSink {
  #bytes = new Uint8Array(1 << 16);
  #length = 0;

  push(part: Bytes): void {
    if (this.#length + part.length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + part.length));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes.set(part, this.#length);
    this.#length += part.length;
  }

  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}
