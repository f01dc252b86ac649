/**
 * One panel of a matrix product's operand b, moved into scratch as packed panels are: where it lies, its columns are not side by side.
 */
import type { Asm, Reg } from './asm.ts';
import type { ContractPlan } from './contract-plan.ts';
import type { ExprEmitter } from './emit-expr.ts';

/** Where a panel goes, and how many columns it has. */
export interface GatheredPanel {
  readonly scratch: Reg;
  readonly width: number;
}

const GATHERED_AT_ONCE = 4;

/** The `columns` columns from `first` on, one at a time, as [k][width]. */
export function gatherPanel(
  exprs: ExprEmitter,
  { b, k, n }: ContractPlan,
  { scratch, width }: GatheredPanel,
  first: Reg,
  columns: number,
): void {
  const { asm, scopes } = exprs;
  const [run] = k;
  const stepBytes = (exprs.table.strideAlong(b.index, run.name) ?? 0) * 4;
  const rowBytes = width * 4;
  const c = (value: number) => asm.const('i32', value);
  asm.loop(c(0), c(columns), 1, (column) =>
    scopes.scope(() => {
      scopes.bind(n[0].name, { kind: 'register', reg: asm.op('add', [first, column]) });
      scopes.bind(run.name, { kind: 'constant', value: 0 });
      const { base, byteOffset } = exprs.address(b.buffer, b.index);
      const [from, to] = [pointerAt(asm, base), pointerAt(asm, asm.address(scratch, column, 4))];
      const copy = (count: number): void => {
        const elements = Array.from({ length: count }, (_, i) => asm.load('f32', from, byteOffset + i * stepBytes));
        elements.forEach((element, i) => {
          asm.store('f32', to, i * rowBytes, element);
        });
      };
      const rest = run.extent % GATHERED_AT_ONCE;
      asm.loop(c(0), c(run.extent - rest), GATHERED_AT_ONCE, () => {
        copy(GATHERED_AT_ONCE);
        bump(asm, from, GATHERED_AT_ONCE * stepBytes);
        bump(asm, to, GATHERED_AT_ONCE * rowBytes);
      });
      copy(rest);
    }),
  );
}

function pointerAt(asm: Asm, from: Reg): Reg {
  const out = asm.reg('ptr');
  asm.move(out, from);
  return out;
}

function bump(asm: Asm, pointer: Reg, bytes: number): void {
  asm.op('add', [pointer, asm.const('ptr', bytes)], pointer);
}
