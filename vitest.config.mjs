import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/labextension/*.spec.ts'],
    setupFiles: ['tests/labextension/setup.ts'],
    testTimeout: 10_000
  }
});
