# needs: go
# fixture: cd $SRC && go build -trimpath -o $FIXTURE/goroutines goroutines.go
$FIXTURE/goroutines one two
