# needs: go
# A module with tests and a program: test and build, with a cache that has the library.
export GOCACHE=$FIXTURE/cache GOPATH=$PWD/gopath GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0 GOTELEMETRY=off
# fixture: mkdir -p m && cp $SRC/gomodule/* m/ && cd m && GOCACHE=$FIXTURE/cache go test -trimpath ./... && GOCACHE=$FIXTURE/cache go build -trimpath -o /dev/null .
mkdir m; cp $SRC/gomodule/* m/; cd m
echo "package main; const Never = \"$$ $RANDOM $RANDOM\"" >never.go  # built by nobody before
go test -trimpath -count=1 -v . | sed 's/([0-9.]*s)//; s/[0-9.]*s$//' | sort
sed -i 's/"sum"/"total"/' main.go
go build -trimpath -o ../program . ; echo "build $?"; ../program 1 2 3
echo 'package main; func broken() { return 1 }' >broken.go; go build . 2>&1 | sed 's/too many.*/ERROR/'; rm broken.go
go list -f '{{.Name}} {{.ImportPath}} {{len .TestGoFiles}}' ./...
cd ..; chmod -R u+w gopath 2>/dev/null; rm -rf m gopath program
