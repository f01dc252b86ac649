/**
 * Numbers for expressions by what they say: equal numbers, equal expressions, however their objects are shared.
 *
 * Each node is numbered once from its own text and its operands' numbers, so a DAG costs as much as it has objects, not as its
 * tree would have nodes. A number means something only within the Structure that gave it.
 */
import { isFloat } from '../core/dtype.ts';
import { children } from './expr.ts';
import type { Expr } from './ir.ts';

export class Structure {
  readonly #ids = new Map<Expr, number>();
  readonly #idOfKey = new Map<string, number>();
  readonly #operands: (readonly number[])[] = [];

  id(e: Expr): number {
    const known = this.#ids.get(e);
    if (known !== undefined) return known;
    const operands = children(e).map((child) => this.id(child));
    const key = `${e.kind} ${e.dtype} ${operands.join(' ')} ${headText(e)}`;
    let id = this.#idOfKey.get(key);
    if (id === undefined) {
      id = this.#operands.length;
      this.#idOfKey.set(key, id);
      this.#operands.push(operands);
    }
    this.#ids.set(e, id);
    return id;
  }

  /** The operands' numbers. Operands are numbered before what uses them. */
  operands(id: number): readonly number[] {
    return this.#operands[id];
  }

  /** How many there are; ids are 0 to size - 1. */
  get size(): number {
    return this.#operands.length;
  }
}

/** What a node says beside its kind, dtype and operands. */
function headText(e: Expr): string {
  switch (e.kind) {
    case 'const':
      return isFloat(e.dtype) && Object.is(e.value, -0) ? '-0' : String(e.value);
    case 'axis':
    case 'local':
      return e.name;
    case 'load':
      return e.buffer;
    case 'unary':
    case 'binary':
      return e.op;
    default:
      return '';
  }
}
