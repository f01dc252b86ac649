/**
 * Choices without a branch: `cmov` on integers, blends on floats and vectors, and minimum and maximum where a choice is one.
 *
 * x > y ? x : y and x > y ? y : x are vmaxps and vminps as they are, NaN and zeros included (Intel's manual, volume 2, MAXPS). A
 * comparison is remembered for that as long as its sources hold what was compared, in the loop where it was made.
 */
import type { Reg } from '../cpu/asm.ts';
import { type Builder, isVectorType } from './builder.ts';
import type { Register } from './encode.ts';
import { suffixOf } from './float-ops.ts';
import { integerOp } from './integer-ops.ts';

interface Comparison {
  /** The one compared as greater, then the other. */
  readonly sources: readonly [Reg, Reg];
  readonly versions: readonly [number, number];
  readonly loop: number;
}

export class Selections {
  readonly #b: Builder;
  readonly #comparisons = new Map<number, Comparison>();

  constructor(builder: Builder) {
    this.#b = builder;
  }

  /** truth = x < y or x > y, on floats. */
  remember(op: 'lt' | 'gt', [x, y]: readonly Reg[], truth: Reg): void {
    const { code } = this.#b;
    const sources = op === 'gt' ? ([x, y] as const) : ([y, x] as const);
    const versions = [code.version(sources[0].id), code.version(sources[1].id)] as const;
    this.#comparisons.set(truth.id, { sources, versions, loop: code.loop });
  }

  select(cond: Reg, a: Reg, b: Reg, into: Reg | undefined): Reg {
    const builder = this.#b;
    const result = builder.result(a.type, into);
    if (this.#extremum(cond, a, b, result)) return result;
    if (cond.type === 'vi32' && builder.lanes === 16) this.#byMask(builder.use(cond), a, b, result);
    else if (cond.type === 'vi32')
      builder.emit('vblendvps', builder.into(result), builder.use(b), builder.source(a), builder.use(cond));
    else if (isVectorType(a.type) || a.type === 'f32' || a.type === 'f64') this.#byFlag(cond, a, b, result);
    else {
      const condition = builder.testTruth(cond);
      const whenTrue = builder.use(a);
      const target = builder.reg(a.type);
      builder.move(target, b);
      builder.emit(`cmov${condition}`, builder.into(target), whenTrue);
      builder.move(result, target);
    }
    return result;
  }

  /** By the sign of each lane, as `vblendvps` does. */
  #byMask(cond: Register, a: Reg, b: Reg, result: Reg): void {
    const builder = this.#b;
    const mask = builder.maskOf(cond);
    builder.emit('vblendmps', builder.into(result), builder.use(b), builder.source(a), mask);
  }

  #extremum(cond: Reg, a: Reg, b: Reg, result: Reg): boolean {
    const builder = this.#b;
    const { code } = builder;
    const comparison = this.#comparisons.get(cond.id);
    if (comparison?.loop !== code.loop || code.version(cond.id) !== 1) return false;
    const { sources, versions } = comparison;
    const [greater, less] = sources;
    if (a.type !== greater.type || sources.some(({ id }, i) => code.version(id) !== versions[i])) return false;
    const suffix = suffixOf(a.type);
    if (this.#isSame(a, greater) && this.#isSame(b, less))
      builder.emit(`vmax${suffix}`, builder.into(result), builder.use(greater), builder.source(less));
    else if (this.#isSame(a, less) && this.#isSame(b, greater))
      builder.emit(`vmin${suffix}`, builder.into(result), builder.use(less), builder.source(greater));
    else return false;
    return true;
  }

  #isSame(x: Reg, y: Reg): boolean {
    const value = this.#b.known(x);
    return x.id === y.id || (value !== undefined && Object.is(value, this.#b.known(y)));
  }

  /** A flag as a mask: 0 or -1, in all lanes where the values are vectors. */
  #byFlag(cond: Reg, a: Reg, b: Reg, result: Reg): void {
    const builder = this.#b;
    const truth = integerOp(builder, 'ne', [cond, builder.constant('i32', 0)], undefined);
    const negative = integerOp(builder, 'neg', [{ ...truth, type: 'i64' }], undefined);
    const mask = builder.into(builder.reg('f64'));
    builder.emit('vmovq', mask, builder.into(negative));
    const lanes = { kind: builder.into(result).kind, n: mask.n };
    if (isVectorType(a.type)) builder.emit('vpbroadcastd', lanes, mask);
    if (lanes.kind === 'zmm') {
      this.#byMask(lanes, a, b, result);
      return;
    }
    builder.emit('vblendvps', builder.into(result), builder.use(b), builder.use(a), lanes);
  }
}
