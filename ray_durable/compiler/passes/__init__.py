"""The passes of the compiler, each a function from statements to statements; `pipeline` has their order."""
