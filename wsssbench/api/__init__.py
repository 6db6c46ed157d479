"""The commands as functions, what they take and what they return; `import wsssbench` hands them on."""
