# needs: git
set -e
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@d
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1
git config --global init.defaultBranch main
git config --global gc.autoDetach false
git init -q repo; cd repo
for i in $(seq 1 200); do mkdir -p d$((i % 10)); seq $i $((i + 50)) > d$((i % 10))/f$i; done
git add .; git commit -qm one; git rev-parse HEAD
for i in $(seq 1 30); do echo $i >> d1/f1; git commit -qam "change $i"; done
git log --oneline | wc -l; git rev-parse HEAD
git checkout -q -b side HEAD~5; echo side > side; git add side; git commit -qm side
git checkout -q main; git merge -q --no-edit side; git rev-parse HEAD; git status --porcelain
git mv d1 moved; git commit -qm move; git diff --stat HEAD~1 | tail -1
cd ..; git clone -q repo copy; git -C copy log --oneline | wc -l
git clone -q --bare repo bare.git; git -C bare.git gc -q; git -C bare.git count-objects -v | grep -E 'packs|in-pack'
git -C repo gc -q --prune=now; git -C repo fsck 2>&1; git -C repo count-objects
cd copy; echo new > new; git add new; git commit -qm new; git push -q ../bare.git main; cd ..
git -C bare.git rev-parse main; git -C repo worktree add -q ../tree side; ls tree | wc -l
git -C repo stash list; git -C repo grep -c 50 -- d2 | head -3; git -C repo blame -s d2/f2 | head -2
git -C repo archive main | tar t | wc -l
rm -rf repo copy bare.git tree
