module s3ferry/bench/nullserver

go 1.22
