import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['tests/labextension/*.spec.ts'], testTimeout: 10_000 }
});
