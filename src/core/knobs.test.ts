import { describe, expect, it } from 'vitest';
import { debugLevel, KNOBS, knob } from './knobs.ts';

describe('knobs', () => {
  it('come from the environment, else their default', () => {
    expect(knob('STOP_AFTER', {})).toBe('');
    expect(knob('STOP_AFTER', { STOP_AFTER: 'widen' })).toBe('widen');
    expect(knob('DEBUG', {})).toBe('0');
  });

  it('read DEBUG as a level; names that other tools put there are none', () => {
    expect(['3', '', 'express:*', '0'].map((DEBUG) => debugLevel({ DEBUG }))).toEqual([3, 0, 0, 0]);
  });

  it('are all documented', () => {
    for (const [name, { doc }] of Object.entries(KNOBS)) {
      expect(name).toMatch(/^[A-Z_]+$/);
      expect(doc.length).toBeGreaterThan(20);
    }
  });
});
