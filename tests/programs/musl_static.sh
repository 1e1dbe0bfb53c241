# needs: musl-gcc
# fixture: musl-gcc -static -O1 -o $FIXTURE/musl $SRC/musl.c -lpthread
$FIXTURE/musl a 'b c'
