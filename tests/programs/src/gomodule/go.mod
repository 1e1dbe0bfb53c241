module example.test/adder

go 1.18
