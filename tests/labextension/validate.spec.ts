import { describe, expect, it } from 'vitest';

import { validate } from '../../labextension/src/runtime/validate';
import { gpu, sample, status, view } from './messages';

function changed(changes: Record<string, unknown>): unknown {
  return { ...view(), ...changes };
}

describe('validate()', () => {
  it('should return a message that is right', () => {
    const right = view({ sample: sample({ gpus: [gpu()] }) });
    expect(validate('RuntimeView', right)).toBe(right);
  });

  it('should let fields pass that it does not know', () => {
    expect(() => validate('RuntimeView', changed({ later: 1 }))).not.toThrow();
  });

  it('should name the field that is wrong, however deep', () => {
    const wrong = (value: unknown) => () => validate('RuntimeView', value);
    expect(wrong(null)).toThrow('RuntimeView should be of type object');
    expect(wrong({ at: 1, sample: null })).toThrow('RuntimeView.status should be there');
    expect(wrong(changed({ at: '1' }))).toThrow('RuntimeView.at should be of type number');
    expect(wrong(changed({ status: { ...status(), state: 'asleep' } }))).toThrow(
      /^RuntimeView\.status\.state should be one of degraded, failed, ready/
    );
    expect(wrong(changed({ sample: sample({ gpus: [{ ...gpu(), mig: 0 } as never] }) }))).toThrow(
      'RuntimeView.sample.gpus[0].mig should be of type boolean'
    );
  });
});
